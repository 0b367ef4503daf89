// Package faults guarantees that the programs survive what happens to the servers they stand between: every fault here is done to a real Postgres or a real
// Redis, of every topology that people run, while transactions are committed and decide is asked.
//
// Each test names the failures (F) and guarantees (G) that it shows; docs/failures.md lists them. What a test costs more than a few seconds for at full size
// runs shortened, and at full size with EVERFLAG_LARGE=1.
package faults
