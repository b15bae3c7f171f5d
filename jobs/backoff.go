package jobs

import (
	"time"

	"github.com/cenkalti/backoff/v6"
)

// doubling returns waits that start with first and double up to longest, at the worker's pace.
func (c Config) doubling(first, longest time.Duration) *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: c.paced(first), Multiplier: 2, MaxInterval: c.paced(longest)}
}

// afterFailures returns the waits after consecutive failures that have nothing to do with one
// person, such as an outage.
func (c Config) afterFailures() *backoff.ExponentialBackOff {
	return c.doubling(time.Second, time.Minute)
}

// backoff returns how long a person backs off after the given number of requests without a deciding
// answer: two seconds, doubled for each earlier one, at most a quarter of an hour. It is spread by
// half, so that people do not come back at the same moment.
func (c Config) backoff(tries int) time.Duration {
	b := c.doubling(2*time.Second, 15*time.Minute)
	b.RandomizationFactor = 0.5
	for range min(tries, 10) {
		b.NextBackOff()
	}
	return b.NextBackOff()
}
