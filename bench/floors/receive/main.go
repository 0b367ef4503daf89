// Command receive is the floor of a consumer in Go: it drains a replication slot up to a position and looks at nothing but the position.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"log"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

func main() {
	url := flag.String("url", "", "address of the database, with replication=database")
	slot := flag.String("slot", "", "slot to drain")
	publication := flag.String("publication", "", "publication to ask for")
	until := flag.String("until", "", "position at which to end")
	flag.Parse()
	target, err := pglogrepl.ParseLSN(*until)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	conn, err := pgconn.Connect(ctx, *url)
	if err != nil {
		log.Fatal(err)
	}
	arguments := []string{"proto_version '1'", "publication_names '" + *publication + "'"}
	if err := pglogrepl.StartReplication(ctx, conn, *slot, 0, pglogrepl.StartReplicationOptions{PluginArgs: arguments}); err != nil {
		log.Fatal(err)
	}
	for at := pglogrepl.LSN(0); at < target; {
		message, err := conn.ReceiveMessage(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if data, ok := message.(*pgproto3.CopyData); ok && len(data.Data) > 17 {
			switch { // XLogData: 'w', start, end, time, then a Commit: 'C', flags, its LSN, its end
			case data.Data[0] == 'w' && len(data.Data) >= 43 && data.Data[25] == 'C':
				at = pglogrepl.LSN(binary.BigEndian.Uint64(data.Data[35:]))
			case data.Data[0] == 'k' && data.Data[17] == 0:
				at = max(at, pglogrepl.LSN(binary.BigEndian.Uint64(data.Data[1:])))
			}
		}
	}
	if err := pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: target}); err != nil {
		log.Fatal(err)
	}
}
