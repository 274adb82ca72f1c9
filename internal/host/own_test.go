package host

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/procfs"

	"github.com/rebound-mq/rebound/scheduler/gate"
)

func TestDirectory_IsThatOfTheCgroupOfVersion2(t *testing.T) {
	v2 := func(root, at string) *procfs.MountInfo {
		return &procfs.MountInfo{FSType: "cgroup2", Root: root, MountPoint: at}
	}
	of := func(path string) []procfs.Cgroup { return []procfs.Cgroup{{HierarchyID: 4, Path: "/v1"}, {Path: path}} }
	for name, c := range map[string]struct {
		groups []procfs.Cgroup
		mounts []*procfs.MountInfo
		want   string
	}{
		"a service of systemd":                   {of("/system.slice/rebound.service"), []*procfs.MountInfo{v2("/", "/sys/fs/cgroup")}, "/sys/fs/cgroup/system.slice/rebound.service"},
		"a container with a name space":          {of("/"), []*procfs.MountInfo{v2("/", "/sys/fs/cgroup")}, "/sys/fs/cgroup"},
		"a container without one":                {of("/docker/1f"), []*procfs.MountInfo{v2("/docker/1f", "/sys/fs/cgroup")}, "/sys/fs/cgroup"},
		"a group within that of the container":   {of("/docker/1f/a"), []*procfs.MountInfo{v2("/docker/1f", "/sys/fs/cgroup")}, "/sys/fs/cgroup/a"},
		"a mount of another part of the tree":    {of("/docker/1fa"), []*procfs.MountInfo{v2("/docker/1f", "/mnt"), v2("/", "/sys/fs/cgroup")}, "/sys/fs/cgroup/docker/1fa"},
		"version 2 beside version 1":             {of("/x"), []*procfs.MountInfo{{FSType: "cgroup", Root: "/", MountPoint: "/cpu"}, v2("/", "/unified")}, "/unified/x"},
		"no cgroups of version 2":                {[]procfs.Cgroup{{HierarchyID: 4, Path: "/v1"}}, []*procfs.MountInfo{v2("/", "/unified")}, ""},
		"no file system of version 2 is mounted": {of("/x"), []*procfs.MountInfo{{FSType: "cgroup", Root: "/", MountPoint: "/cpu"}}, ""},
	} {
		if got := directory(c.groups, c.mounts); got != c.want {
			t.Errorf("%s: the directory is %q, want %q", name, got, c.want)
		}
	}
}

// made returns a cgroup with the files.
func made(t *testing.T, files map[string]string) *cgroup {
	t.Helper()
	c := &cgroup{t.TempDir()}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestCgroup_MeasuresMemoryAndWaiting(t *testing.T) {
	pressure := "some avg10=0.49 avg60=1.07 avg300=20.75 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
	for name, c := range map[string]struct {
		files  map[string]string
		memory float64
		waited time.Duration
		err    string
	}{
		"an empty group":                     {nil, 0, 0, ""},
		"no limit":                           {map[string]string{"memory.max": "max\n", "memory.current": "100\n"}, 0, 0, ""},
		"a limit":                            {map[string]string{"memory.max": "1000\n", "memory.current": "800\n", "memory.stat": "anon 500\n"}, 0.8, 0, ""},
		"files that can be dropped":          {map[string]string{"memory.max": "1000\n", "memory.current": "800\n", "memory.stat": "active_file 9\ninactive_file 300\n"}, 0.5, 0, ""},
		"more such files than memory in use": {map[string]string{"memory.max": "1000\n", "memory.current": "800\n", "memory.stat": "inactive_file 801\n"}, 0, 0, ""},
		"pressure":                           {map[string]string{"cpu.pressure": pressure}, 0, 1500 * time.Millisecond, ""},
		"a limit that is no number":          {map[string]string{"memory.max": "much\n"}, 0, 0, `"much" is no limit`},
		"pressure without a total":           {map[string]string{"cpu.pressure": "some avg10=1"}, 0, 0, "it has no total"},
		"a total that is no number":          {map[string]string{"cpu.pressure": "some total=x"}, 0, 0, "cpu.pressure of the cgroup"},
	} {
		o := &Own{group: made(t, c.files)}
		memory, memErr := o.group.memory()
		waited, err := o.group.waitedForCPU()
		if err == nil {
			err = memErr
		}
		if memory != c.memory || waited != c.waited || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: memory %.2f, waited %v, %v; want %.2f, %v, %q", name, memory, waited, err, c.memory, c.waited, c.err)
		}
	}
}

func TestCgroup_TellsItsMemoryLimitInBytes(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
		err   string
	}{
		"no file":             {nil, 0, ""},
		"no limit":            {map[string]string{"memory.max": "max\n"}, 0, ""},
		"a limit":             {map[string]string{"memory.max": "1073741824\n"}, 1 << 30, ""},
		"a limit of nothing":  {map[string]string{"memory.max": "0\n"}, 0, `"0" is no limit`},
		"one that is no size": {map[string]string{"memory.max": "1G\n"}, 0, `"1G" is no limit`},
	} {
		got, err := made(t, c.files).memoryLimit()
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: the limit is %d, %v, want %d, %q", name, got, err, c.want, c.err)
		}
	}
}

func TestOwn_PressureIsTheShareOfTheTimeSinceTheLastMeasurement(t *testing.T) {
	o, err := NewOwn()
	if err != nil {
		t.Fatalf("this process cannot be measured: %v", err)
	}
	now := time.Now()
	o.at = time.Time{} // whatever group the test runs in
	for _, c := range []struct {
		total string
		after time.Duration
		want  float64
	}{{"1000000", 0, 0}, {"1250000", time.Second, 0.25}, {"9250000", time.Second, 1}, {"9250000", time.Second, 0}, {"0", time.Second, 0}} {
		o.group = made(t, map[string]string{"cpu.pressure": "some avg10=0.00 total=" + c.total + "\n"})
		now = now.Add(c.after)
		if s, err := o.Measure(now); err != nil || s.CPUPressure != c.want || s.SchedulerDelay < 0 {
			t.Errorf("at a total of %s µs the saturation is %+v, %v, want a pressure of %v", c.total, s, err, c.want)
		}
	}
	o.group = nil
	if s, err := o.Measure(now); err != nil || s.CPUPressure != 0 || s.Memory != 0 {
		t.Errorf("without a cgroup the saturation is %+v, %v, want only the delay of the scheduler", s, err)
	}
}

func TestOwn_SchedulerDelayShowsGoroutinesThatWait(t *testing.T) {
	o, err := NewOwn()
	if err != nil {
		t.Fatal(err)
	}
	// More goroutines than CPUs, each of which runs for a while.
	done := make(chan struct{})
	const many = 400
	for range many {
		go func() {
			for end := time.Now().Add(3 * time.Millisecond); time.Now().Before(end); {
			}
			done <- struct{}{}
		}()
	}
	for range many {
		<-done
	}
	s, err := o.Measure(time.Now())
	if err != nil || s.SchedulerDelay < time.Millisecond {
		t.Errorf("with goroutines that wait in line the saturation is %+v, %v, want a delay of a millisecond at least", s, err)
	}
	if level := (gate.Overload{}).Step(s, gate.Limits{SchedulerDelay: time.Microsecond}, time.Now()).Level(); level <= 1 {
		t.Errorf("the overload is %v, want more than 1 with a limit of a microsecond", level)
	}
}

func TestPercentile_IsTheUpperBoundOfItsBucket(t *testing.T) {
	bounds := []float64{0, 0.001, 0.01, 0.1, math.Inf(1)}
	for name, c := range map[string]struct {
		counts []uint64
		want   time.Duration
	}{
		"none":                      {[]uint64{0, 0, 0, 0}, 0},
		"one":                       {[]uint64{0, 1, 0, 0}, 10 * time.Millisecond},
		"one of a hundred is long":  {[]uint64{99, 0, 1, 0}, time.Millisecond},
		"two of a hundred are long": {[]uint64{98, 0, 2, 0}, 100 * time.Millisecond},
		"without an upper bound":    {[]uint64{0, 0, 0, 5}, 100 * time.Millisecond},
	} {
		if got := percentile(c.counts, bounds, 0.99); got != c.want {
			t.Errorf("%s: it is %v, want %v", name, got, c.want)
		}
	}
}
