// Package killpoint guarantees that a test can let the process die, as by kill -9, at a chosen point of the code: between two steps whose order matters.
// In an ordinary build Hit does nothing and costs nothing.
package killpoint

// The stages at which the replicator may die.
const (
	Read        = "read"        // a transaction has been received, nothing has been done with it
	Apply       = "apply"       // before and after the script that applies a batch
	Acknowledge = "acknowledge" // before and after the status update that acknowledges a position
	Reconcile   = "reconcile"   // at every team of a consistent copy, and before and after its last step
)
