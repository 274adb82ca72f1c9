package wire_test

import (
	"reflect"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events/wire"
)

func TestSetHeader_ReplacesWhateverTheLetterCase(t *testing.T) {
	h := nats.Header{"CE-Target": {"old"}, "ce-target": {"older"}, "X": {"kept"}}
	wire.SetHeader(h, "ce-target", "new")
	if want := (nats.Header{"ce-target": {"new"}, "X": {"kept"}}); !reflect.DeepEqual(h, want) {
		t.Errorf("got %v, want %v", h, want)
	}
}

func TestMicroError_IsReadInAnyLetterCase(t *testing.T) {
	code, text := wire.MicroError(nats.Header{"nats-service-error-code": {"503"}, "NATS-SERVICE-ERROR": {"busy"}})
	if code != "503" || text != "busy" {
		t.Errorf("got %q and %q, want 503 and busy", code, text)
	}
}

// Only nats.go's own spelling makes it take a message without payload for a status.
func TestHideStatus_HidesOnlyWhatLooksLikeAStatusAndIsTakenBack(t *testing.T) {
	for name, c := range map[string]struct {
		header nats.Header
		data   string
		hides  bool
	}{
		"no payload":               {nats.Header{"Status": {"503", "x"}, "Description": {"No Responders"}, "X": {"1"}}, "", true},
		"a payload":                {nats.Header{"Status": {"503"}}, "x", false},
		"another letter case":      {nats.Header{"status": {"503"}}, "", false},
		"no such header":           {nats.Header{"X": {"1"}}, "", false},
		"no header":                {nil, "", false},
		"a description by itself":  {nats.Header{"Description": {"EOB"}}, "", false},
		"both, in different cases": {nats.Header{"Status": {"1"}, "STATUS": {"2"}}, "", true},
	} {
		m := &nats.Msg{Header: wire.CarriedHeader(c.header), Data: []byte(c.data)}
		if got := wire.LooksLikeStatus(m.Header, m.Data); got != c.hides {
			t.Errorf("%s: looks like a status = %v, want %v", name, got, c.hides)
		}
		wire.HideStatus(m)
		if wire.LooksLikeStatus(m.Header, m.Data) {
			t.Errorf("%s: stored as %v it looks like a status", name, m.Header)
		}
		if got := wire.CarriedHeader(m.Header); len(got) != len(c.header) || len(got) > 0 && !reflect.DeepEqual(got, c.header) {
			t.Errorf("%s: %v comes back as %v", name, c.header, got)
		}
		wire.ShowStatus(m.Header)
		if len(m.Header) > 0 && !reflect.DeepEqual(m.Header, c.header) {
			t.Errorf("%s: %v is shown as %v", name, c.header, m.Header)
		}
	}
}
