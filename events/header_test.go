package events_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/events"
)

func TestIsOwned_OnlyNamesOfReboundAndTheServer(t *testing.T) {
	for name, want := range map[string]bool{
		"Retry-Id": true, "retry-id": true, "RETRY-STATE": true, "Retry-After": true, "Retry-Submitted-To": true,
		"Nats-Msg-Id": true, "nats-msg-id": true, "Nats-TTL": true, "NATS-SERVICE-ERROR-CODE": true,
		"Nats-Expected-Stream": true, "nats-expected-other": true, "Nats-Schedule": true, "Nats-Scheduler": true, "Nats-Schedule-Time-Zone": true,
		"Retry-Budget": false, "retry-queue": false, "Nats-Tenant": false, "Retry": false, "Retry-": false, "Nats-": false, "": false,
		"X-Retry-Id": false, "Retry-Id-2": false, "Nats-Msg-Identity": false, "traceparent": false, "Content-Type": false, "ce-id": false,
	} {
		if got := events.IsOwned(name); got != want {
			t.Errorf("IsOwned(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestIsOwned_WhatIsListedInAnyLetterCase(t *testing.T) {
	for _, name := range slices.Concat(events.OwnHeaders, events.ServerHeaders) {
		name = strings.Replace(name, "*", "X", 1)
		long := strings.NewReplacer("s", "\u017f", "S", "\u017f", "k", "\u212a").Replace(name) // equal by strings.EqualFold
		for _, spelt := range []string{name, strings.ToLower(name), strings.ToUpper(name), long} {
			if !events.IsOwned(spelt) {
				t.Errorf("IsOwned(%q) is false, want true", spelt)
			}
		}
	}
}

// TestServerHeaders_AreThoseOfTheServer reads the source of the server that the module depends
// on, so that a header which a newer server brings is not overlooked.
func TestServerHeaders_AreThoseOfTheServer(t *testing.T) {
	const noMessage = "Nats-No-Masking" // a header of the HTTP request that opens a WebSocket
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/nats-io/nats-server/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "server", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	name, found := regexp.MustCompile(`"(Nats-[A-Za-z-]+)"`), make(map[string]bool)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllSubmatch(source, -1) {
			if header := string(m[1]); header != noMessage {
				found[header] = true
			}
		}
	}
	if len(found) < 40 {
		t.Fatalf("found %d headers in the source of the server, want at least 40", len(found))
	}
	for header := range found {
		if !events.IsOwned(header) {
			t.Errorf("header %s of the server is not among events.ServerHeaders", header)
		}
	}
}
