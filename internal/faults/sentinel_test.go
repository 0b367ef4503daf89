package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/testenv"
)

// sentinels watch a master. They return their addresses.
func sentinels(t *testing.T, master *testenv.RedisInstance) (addresses []string) {
	t.Helper()
	binary := testenv.Tool(t, "redis-server", "redis-server") // Sentinel is a mode of it
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		dir, own := t.TempDir(), testenv.FreePort(t)
		conf := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nsentinel monitor cache %s %s 2\nsentinel down-after-milliseconds cache 500\n"+
			"sentinel failover-timeout cache 1000\n", own, dir, host, port)
		file := filepath.Join(dir, "sentinel.conf")
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		testenv.Run(t, binary, nil, file, "--sentinel")
		addresses = append(addresses, "127.0.0.1:"+own)
	}
	for _, address := range addresses {
		sentinel := redis.NewSentinelClient(&redis.Options{Addr: address, DisableIdentity: true})
		t.Cleanup(func() { _ = sentinel.Close() })
		testenv.Eventually(t, settle, func() error {
			seen, err := sentinel.Master(t.Context(), "cache").Result()
			if err == nil && (seen["num-slaves"] != "1" || seen["num-other-sentinels"] != "2") {
				err = fmt.Errorf("it knows %s replicas and %s others", seen["num-slaves"], seen["num-other-sentinels"])
			}
			return err
		})
	}
	return addresses
}

// agreed waits until every Sentinel names the master. One that has not heard of a failover yet takes it back when the old master returns.
func agreed(t *testing.T, watchers []string, master string) {
	t.Helper()
	for _, address := range watchers {
		sentinel := redis.NewSentinelClient(&redis.Options{Addr: address, DisableIdentity: true})
		testenv.Eventually(t, settle, func() error {
			named, err := sentinel.GetMasterAddrByName(t.Context(), "cache").Result()
			if at := strings.Join(named, ":"); err == nil && at != master {
				err = fmt.Errorf("%s names %s, want %s", address, at, master)
			}
			return err
		})
		if err := sentinel.Close(); err != nil {
			t.Error(err)
		}
	}
}

// role is nil if the server has the role.
func role(ctx context.Context, c *redis.Client, want string) error {
	info, err := c.Info(ctx, "replication").Result()
	if err == nil && !strings.Contains(info, "role:"+want) {
		err = errors.New(info)
	}
	return err
}

// F33, F34, F36, S52: the master that Sentinel watches is killed under load, and comes back as a replica; then the new one is failed over in order.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	master := testenv.RedisServer(t, testenv.RedisOptions{Process: true})
	replica := master.Replica(t, testenv.RedisOptions{})
	watchers := sentinels(t, master)
	url := "redis+sentinel://" + strings.Join(watchers, ",") + "/cache"
	s := newScene(t, testenv.Postgres(t), url, client(t, url, ""))
	r := s.replicator("REPLICATOR_SLOT=" + strings.TrimPrefix(slotOf(s), "t_"))
	s.waitEqual()
	d, l := s.decide(), s.load()
	l.more(100)
	first, second := master.Client(t), replica.Client(t)

	master.Kill(t)
	testenv.Eventually(t, settle, func() error { return role(t.Context(), second, "master") })
	agreed(t, watchers, replica.Addr)
	l.more(50)
	master.Start(t) // as a master, until Sentinel tells it otherwise
	testenv.Eventually(t, settle, func() error { return role(t.Context(), first, "slave") })
	l.more(50)

	sentinel := redis.NewSentinelClient(&redis.Options{Addr: watchers[0], DisableIdentity: true})
	defer sentinel.Close()
	testenv.Eventually(t, settle, func() error { // refused while the first failover settles
		if role(t.Context(), first, "master") == nil {
			return nil
		}
		_ = sentinel.Failover(t.Context(), "cache").Err() // the role tells
		return role(t.Context(), first, "master")
	})
	l.more(100)
	l.stop()
	s.waitEqual()
	d.noticedNothing(s)
	t.Logf("%d transactions, %d reconciles, %d log lines", l.committed.Load(), r.reconciles(), len(r.Logs()))
	if n := len(r.Logs()); n > 150 {
		t.Errorf("%d log lines are a flood", n)
	}
}

// F33, F34, F35, F36, S52: in a Cluster of six nodes, the master that holds the cache is killed under load; its replica takes over.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t)
	var addresses []string
	for _, n := range nodes {
		addresses = append(addresses, n.server.Addr)
	}
	url := "redis+cluster://" + strings.Join(addresses, ",")
	all, ok := client(t, url, "").(*redis.ClusterClient)
	if !ok {
		t.Fatal("not a client of a cluster")
	}
	s := newScene(t, testenv.Postgres(t), url, clustered{all})
	r := s.replicator("REPLICATOR_SLOT=" + strings.TrimPrefix(slotOf(s), "t_"))
	s.waitEqual()
	d, l := s.decide(), s.load()
	l.more(100)

	owner := nodes[int(all.ClusterKeySlot(t.Context(), "{everflag}:meta").Val())/slotsEach]
	owner.server.Kill(t)
	testenv.Eventually(t, settle, func() error { return role(t.Context(), owner.replica.client, "master") })
	l.more(100)
	owner.server.Start(t)
	testenv.Eventually(t, settle, func() error { return role(t.Context(), owner.client, "slave") })
	l.more(50)
	l.stop()
	s.waitEqual()
	d.noticedNothing(s)
	t.Logf("%d transactions, %d reconciles, %d log lines", l.committed.Load(), r.reconciles(), len(r.Logs()))
}

// clustered scans the node that has the cache, where the plain client picks any.
type clustered struct{ *redis.ClusterClient }

func (c clustered) Scan(ctx context.Context, cursor uint64, match string, count int64) *redis.ScanCmd {
	master, err := c.MasterForKey(ctx, "{everflag}:meta")
	if err != nil {
		cmd := redis.NewScanCmd(ctx, nil)
		cmd.SetErr(err)
		return cmd
	}
	return master.Scan(ctx, cursor, match, count)
}

// clusterNode is a node of a cluster; masters have a replica.
type clusterNode struct {
	server    *testenv.RedisInstance
	client    *redis.Client
	id, bus   string
	replica   *clusterNode
	replicaOf *clusterNode
}

const slotsEach = 16384/3 + 1

// newCluster starts three masters, each with a replica; masters come first.
func newCluster(t *testing.T) (nodes []*clusterNode) {
	t.Helper()
	for range 6 {
		n := &clusterNode{bus: testenv.FreePort(t)}
		n.server = testenv.RedisServer(t, testenv.RedisOptions{Process: true, Conf: map[string]string{
			"cluster-enabled": "yes", "cluster-port": n.bus, "cluster-node-timeout": "1000",
		}})
		n.client = n.server.Client(t)
		n.id = n.client.ClusterMyID(t.Context()).Val()
		nodes = append(nodes, n)
	}
	for i, n := range nodes {
		host, port, err := net.SplitHostPort(n.server.Addr)
		if err == nil && i > 0 {
			err = nodes[0].client.Do(t.Context(), "CLUSTER", "MEET", host, port, n.bus).Err()
		}
		if err == nil && i < 3 {
			err = n.client.ClusterAddSlotsRange(t.Context(), i*slotsEach, min((i+1)*slotsEach, 16384)-1).Err()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range nodes[3:] {
		n.replicaOf, nodes[i].replica = nodes[i], n
		testenv.Eventually(t, settle, func() error { return n.client.ClusterReplicate(t.Context(), n.replicaOf.id).Err() })
	}
	for _, n := range nodes {
		testenv.Eventually(t, settle, func() error {
			info, err := n.client.ClusterInfo(t.Context()).Result()
			known, errNodes := n.client.ClusterNodes(t.Context()).Result()
			link := n.client.Info(t.Context(), "replication").Val()
			whole := strings.Contains(info, "cluster_state:ok") && strings.Count(known, " slave ")+strings.Count(known, "myself,slave ") == 3
			if n.replicaOf != nil {
				whole = whole && strings.Contains(link, "master_link_status:up")
			}
			if !whole {
				err = errors.Join(err, errNodes, fmt.Errorf("%s\n%s", info, known))
			}
			return err
		})
	}
	return nodes
}

// slotOf is a slot name of its own for a scene on a shared server.
func slotOf(s *scene) string {
	return value[string](s, "SELECT right(current_database(), 30)")
}
