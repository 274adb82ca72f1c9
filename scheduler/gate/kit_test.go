package gate

import "time"

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at returns the time that many seconds after the tests begin.
func at(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }

// most returns the largest sum taken within any half-open window of a length.
func most(taken []taking, length time.Duration) int {
	largest, sum, from := 0, 0, 0
	for _, t := range taken {
		sum += t.n
		for !taken[from].at.After(t.at.Add(-length)) {
			sum -= taken[from].n
			from++
		}
		largest = max(largest, sum)
	}
	return largest
}

type taking struct {
	at time.Time
	n  int
}
