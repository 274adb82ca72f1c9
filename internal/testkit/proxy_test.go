package testkit_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestProxy_CutsAndMends(t *testing.T) {
	t.Parallel()
	r := testkit.Redis(t)
	p := testkit.Proxy(t, r.Addr())
	ask := func() error {
		c, err := net.DialTimeout("tcp", p.Addr(), time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			return err
		}
		fmt.Fprint(c, "PING\r\n")
		_, err = bufio.NewReader(c).ReadString('\n')
		return err
	}
	if err := ask(); err != nil {
		t.Fatalf("through a whole proxy: %v", err)
	}
	p.Cut()
	if err := ask(); !os.IsTimeout(err) {
		t.Errorf("through a cut proxy the error is %v, want a timeout", err)
	}
	p.Mend()
	testkit.Eventually(t, 5*time.Second, "the mended proxy passing data", func() bool { return ask() == nil })
}
