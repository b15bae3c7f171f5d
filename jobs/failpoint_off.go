//go:build !failpoints

package jobs

// failpoint is where a test can kill the process; see failpoint_on.go. Without the build tag it
// does nothing.
func failpoint(string) {}
