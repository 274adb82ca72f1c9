package submit

import "testing"

func TestRanges_JoinNeighbours(t *testing.T) {
	if got := ranges([]int{9, 3, 7, 8, 1, 2, 12}); got != "1-3, 7-9, 12" {
		t.Error(got)
	}
}
