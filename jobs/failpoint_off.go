//go:build !failpoints

package jobs

// failpoint is where a test can make the process die; see failpoint_on.go. In
// the program that people run there is nothing there.
func failpoint(string) {}
