package main

import (
	"net/http"

	"github.com/everflag/everflag/replication"
)

// orders are the routes by which a running replicator is told to do something.
func orders(replicator *replication.Replicator) map[string]http.Handler {
	return map[string]http.Handler{}
}
