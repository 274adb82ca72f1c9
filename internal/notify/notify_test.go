package notify

import "testing"

func TestSignal_IsSeenOnceHoweverOftenItWasSet(t *testing.T) {
	s := NewSignal()
	for range 3 {
		s.Set()
	}
	select {
	case <-s:
	default:
		t.Fatal("a signal that was set is not seen")
	}
	select {
	case <-s:
		t.Error("a signal that was set three times before it was seen is seen twice, want once")
	default:
	}
	Signal(nil).Set()
}
