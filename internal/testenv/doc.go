// Package testenv guarantees every test a real Postgres and a real Redis of its own, for some ten milliseconds each, and that nothing of them is left
// afterwards, however the test ends.
//
//	func TestFlagReachesCache(t *testing.T) {
//		t.Parallel()
//		pg := testenv.Postgres(t)                       // a fresh database, wal_level=logical
//		testenv.LoadSchema(t, pg, testenv.Schema2026)   // PostHog's tables
//		testenv.AddTeam(t, pg, 1, nil)
//		rd := testenv.Redis(t)                          // an empty key space
//
//		network := testenv.Proxy(t, rd.Addr)            // a wire to cut, stall, delay
//		startReplicator(t, pg.URL, network.URL(rd.URL), rd.Prefix)
//
//		network.Stall()
//		testenv.AddFlag(t, pg, 1, "new-checkout", `{"groups":[{"rollout_percentage":50}]}`, nil)
//		network.Restore()
//		testenv.Eventually(t, 5*time.Second, func() error { return cached(rd, "new-checkout") })
//	}
//
// # Shared or own
//
// Postgres and Redis share one server each among the tests of a package: they are started by the first test that asks and end with the process. A test that
// wants to hurt a server, configure it, or hold a transaction open for long (which delays the creation of every slot on the server) asks for an own one
// with PostgresServer or RedisServer. Those can be stopped, killed, frozen, thawed, restarted, replicated and promoted, and keep their address.
// What no container offers (a data directory, a Unix socket, a standby, a Cluster) needs the option Process.
//
// Failures of the network are Proxy's: see Flaky. Failures of our own programs are Program's: Build, Run, Signal, Kill, WaitForLog.
//
// # Where servers come from
//
//	TEST_POSTGRES_URL, TEST_REDIS_URL   servers of yours; Postgres needs a superuser and wal_level=logical
//	else Docker                         if an engine answers and has the image, or pulls it within a minute
//	else binaries                       PATH, /usr/lib/postgresql/*/bin; redis-server, valkey-server
//	else                                the test is skipped, and the message says what is missing
//
//	TEST_SERVERS=env|docker|local       only that
//	TEST_REQUIRE_SERVERS=1              a missing server, program or facility of the system is a failure: see Missing and Tool
//	TEST_POSTGRES_VERSION=16            that major; .ci/postgres-majors.sh fetches what the system lacks
//	TEST_REDIS_IMAGE=valkey/valkey:8    that image in Docker; for a local Valkey see .ci/valkey
//
// Nothing is installed here, nothing listens but on 127.0.0.1, and servers on 5432 and 6379 are never touched. Package server has the rest of the story.
//
// # Leaks
//
// Main in a package's TestMain looks for leaked goroutines once the servers are stopped. Running servers need no goroutine here, so other leak checks work
// too.
package testenv
