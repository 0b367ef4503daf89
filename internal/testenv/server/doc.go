// Package server guarantees that a Postgres or Redis it starts is private, real, and gone afterwards: own port, own directory, and nothing left behind
// even if the process that started it is killed with SIGKILL.
//
// It knows nothing of testing, so programs such as the demo use it as tests do. Package testenv is the face that tests see.
//
// # Where a server comes from
//
// A Docker engine that answers and has the image (or pulls it quickly), else binaries on this machine, else a MissingError that says what was looked for.
// Kind forces one. Nothing is ever installed here, and servers on the usual ports are never touched.
//
// # Who cleans up
//
// Close does. For whoever dies without calling Close there is the reaper: a shell that waits on a pipe held open by this process, and when the pipe
// closes stops what was registered and removes the workspace. It needs no goroutine here, so a leak check sees nothing, and it knows about frozen
// processes, which a parent-death signal would not reach.
//
// # Durability
//
// fsync is off. What the kernel has been given survives the death of a process, so Kill and an immediate stop lose nothing that a real server would keep;
// only a machine crash would, and no test pulls that plug.
package server
