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
