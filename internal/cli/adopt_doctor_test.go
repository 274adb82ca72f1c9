package cli

import (
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/internal/doctor"
)

func TestDoctor_WarnsOfAnAdoptedConsumerWithoutItsStream(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.orders(3)
	if _, found := c.findings(exitOK)["adoption"]; found {
		t.Error("the doctor tells of adoption when there is none")
	}
	c.service()
	c.ok("adopt", "--stream", "ORDERS", "--consumer", "worker")
	if f := c.findings(exitOK)["adoption"]; f.Status != doctor.OK || f.Found != "1 consumer adopted" {
		t.Errorf("%+v", f)
	}
	if err := c.js.DeleteStream(t.Context(), "ORDERS"); err != nil {
		t.Fatal(err)
	}
	if f := c.findings(exitOK)["adoption"]; f.Status != doctor.Warn || !strings.Contains(f.Found, "stream ORDERS: there is no such stream") {
		t.Errorf("without its stream: %+v", f)
	}
}
