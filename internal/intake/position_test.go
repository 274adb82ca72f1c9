package intake

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
)

func at(sequence uint64) *jetstream.ConsumerInfo {
	return &jetstream.ConsumerInfo{Delivered: jetstream.SequenceInfo{Stream: sequence}, NumPending: 1000}
}

func TestPosition_KeepsAwayFromWhereTheConsumerWillBe(t *testing.T) {
	now := time.Now()
	first := position{}.next(at(100), now)
	if first.paced || first.beyond() != 100+aheadMessages+1 {
		t.Errorf("the first position is %+v, beyond %d, want no pace and %d", first, first.beyond(), 100+aheadMessages+1)
	}
	second := first.next(at(1100), now.Add(time.Second))
	if want := uint64(1100 + 600 + aheadMessages + 1); !second.paced || second.beyond() != want {
		t.Errorf("after 1000 in a second it is %+v, beyond %d, want %d", second, second.beyond(), want)
	}
	if third := second.next(at(1100), now.Add(2*time.Second)); third.perSecond != 900 {
		t.Errorf("a consumer that stood still for a second goes on at %.0f a second, want 900", third.perSecond)
	}
}

func TestPosition_ForgetsThePaceOfLongAgoAndOfAnotherConsumer(t *testing.T) {
	now := time.Now()
	p := position{at: now, delivered: 1000, perSecond: 500, paced: true}
	if n := p.next(at(2000), now.Add(streams.CallTimeout+time.Second)); n.paced {
		t.Errorf("a position of long ago gives the pace of %+v", n)
	}
	if n := p.next(at(10), now.Add(time.Second)); n.paced {
		t.Errorf("a consumer that went back has the pace of %+v", n)
	}
}
