package cli

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestReport_EndsWhatSubmitPublished(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.service()
	id := strings.TrimSpace(c.ok("submit", "billing", "charge", "--delivery", "publish", "--set", "baseDelay=10ms"))
	js := testkit.JetStream(t, c.nc)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var consumer jetstream.Consumer
	testkit.Eventually(t, patience, "the stream of the workers", func() bool {
		var err error
		consumer, err = js.CreateOrUpdateConsumer(ctx, "RETRY_WORK", jetstream.ConsumerConfig{Durable: "w", AckPolicy: jetstream.AckExplicitPolicy})
		return err == nil
	})
	m, err := consumer.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	h := m.Headers()
	report := func(result string, more ...string) result {
		return c.run(append([]string{
			"report", "billing", "charge", result, "--id", id, "--attempt", h.Get(events.HeaderAttempt), "--retry-token", h.Get(events.HeaderToken),
		}, more...)...)
	}
	if r := report("success", "--retry-token", "guessed"); r.code != exitFailure || !strings.Contains(r.stderr, "token") {
		t.Errorf("a forged report ends with code %d and says %q, want 1 and that its token is wrong", r.code, r.stderr)
	}
	if r := report("done"); r.code != exitUsage {
		t.Errorf("a report of no known result ends with code %d, want %d: %s", r.code, exitUsage, r.stderr)
	}
	if r := report("success", "--retry-after", "soon"); r.code != exitUsage {
		t.Errorf("a report with a wrong duration ends with code %d, want %d: %s", r.code, exitUsage, r.stderr)
	}
	for _, result := range []string{"working", "success"} {
		if r := report(result); r.code != 0 {
			t.Errorf("a report of %s ends with code %d: %s", result, r.code, r.stderr)
		}
	}
	testkit.Eventually(t, patience, "the outcome", func() bool {
		return strings.Contains(c.ok("outcomes", "--no-follow", "--output", "json"), events.RetrySuccess)
	})
}

func TestReport_WithoutAServiceStoresTheReport(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	r := c.run("report", "billing", "charge", "success", "--id", strings.Repeat("0", 32), "--attempt", "2", "--retry-token", "t")
	if r.code != 0 || !strings.Contains(r.stderr, "no service answers") || c.messages("RETRY_INTAKE") != 1 {
		t.Errorf("the report ends with code %d, says %q and %d are stored; want 0, that no service answers, and 1", r.code, r.stderr, c.messages("RETRY_INTAKE"))
	}
}
