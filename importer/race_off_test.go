//go:build !race

package importer

// raceDetector tells whether these tests run with it.
const raceDetector = false
