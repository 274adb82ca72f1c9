package natspath

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/bench/compare"
)

// TestMain lets this program be the contenders' processes, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == compare.ChildCommand {
		if err := compare.ServeChild(context.Background(), Roles(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestContenders_BringEveryOperationBackAndNoneEarly(t *testing.T) {
	for _, c := range []compare.Contender{Bare(), Nak(), Schedules()} {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
			defer cancel()
			instance, err := c.Start(ctx, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := instance.Stop(); err != nil {
					t.Error(err)
				}
			}()
			for _, l := range []compare.Load{
				{Operations: 200, Size: 512},
				{Operations: 200, Size: 512, Delay: 600 * time.Millisecond},
				{Operations: 200, Size: 512, Delay: 100 * time.Millisecond, Spread: time.Second, Rate: 1000},
			} {
				r, err := instance.Run(ctx, l)
				if err != nil {
					t.Fatalf("%+v: %v", l, err)
				}
				if l.Rate > 0 && (len(r.Late) != l.Operations || slices.Min(r.Late) < 0) {
					t.Errorf("%d of %d came back, the earliest %s late", len(r.Late), l.Operations, slices.Min(r.Late))
				}
			}
			if n, err := instance.Mallocs(ctx); err != nil || n == 0 {
				t.Errorf("the service allocated %d objects: %v", n, err)
			}
			if err := instance.Park(ctx, 100, 512); err != nil {
				t.Errorf("parking: %v", err)
			}
		})
	}
}

func TestElected_ClusterTakesStreamsOnThreeServers(t *testing.T) {
	t.Parallel()
	i := &instance{}
	urls, err := i.startServers(t.Context(), t.TempDir())
	if err != nil || len(urls) != clusterSize {
		t.Errorf("%v: %v", urls, err)
	}
	if err := i.Stop(); err != nil {
		t.Error(err)
	}
}
