package events_test

import (
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/events"
)

func TestOperationID_DependsOnEachPart(t *testing.T) {
	seen := map[string][4]string{}
	for _, parts := range [][4]string{{"a", "b", "c", "d"}, {"ab", "", "c", "d"}, {"a", "bc", "", "d"}, {"", "ab", "c", "d"}, {"a", "b", "cd", ""}} {
		id := events.OperationID(parts[0], parts[1], parts[2], parts[3])
		if other, ok := seen[id]; ok || len(id) != 32 {
			t.Errorf("%q and %q share the id %s", parts, other, id)
		}
		seen[id] = parts
	}
}

func TestOperation_HistoryIsBoundedAndKeepsBothEnds(t *testing.T) {
	op := &events.Operation{}
	for n := 1; n <= 100; n++ {
		op.Record(events.Attempt{Number: n, Error: strings.Repeat("e", 1000)})
	}
	first, last := op.History[0].Number, op.History[len(op.History)-1].Number
	if len(op.History) != events.MaxHistory || op.Omitted != 100-events.MaxHistory || first != 1 || last != 100 {
		t.Errorf("after 100 attempts: %d kept, %d omitted, first %d, last %d", len(op.History), op.Omitted, first, last)
	}
}
