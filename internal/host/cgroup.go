package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// cgroup is a control group of version 2, by its directory. The root is none: its figures are
// those of the whole machine.
type cgroup struct{ dir string }

// ownCgroup returns the cgroup of this process, nil if it has none of its own.
func ownCgroup() (*cgroup, error) {
	self, err := procfs.Self()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no Linux
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the cgroup of this process: %w", err)
	}
	groups, err := self.Cgroups()
	if err != nil {
		return nil, fmt.Errorf("reading the cgroup of this process: %w", err)
	}
	mounts, err := procfs.GetMounts()
	if err != nil {
		return nil, fmt.Errorf("looking for the cgroups' file system: %w", err)
	}
	dir := directory(groups, mounts)
	if dir == "" {
		return nil, nil
	}
	// Every cgroup but the root has this file.
	switch _, err := os.Stat(filepath.Join(dir, "cgroup.events")); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading the cgroup of this process: %w", err)
	}
	return &cgroup{dir}, nil
}

// directory returns where the files of the cgroup of version 2 are, empty if there is none. A
// container may see only its own part of the tree, which is mounted in place of the root.
func directory(groups []procfs.Cgroup, mounts []*procfs.MountInfo) string {
	for _, g := range groups {
		if g.HierarchyID != 0 {
			continue
		}
		for _, m := range mounts {
			if m.FSType != "cgroup2" {
				continue
			}
			within, ok := strings.CutPrefix(path.Clean(g.Path), strings.TrimSuffix(m.Root, "/"))
			if ok && (within == "" || within[0] == '/') {
				return filepath.Join(m.MountPoint, within)
			}
		}
	}
	return ""
}

// waitedForCPU returns for how long in all some process of the group was ready to run and had
// no CPU, 0 when the kernel does not say.
func (c *cgroup) waitedForCPU() (time.Duration, error) {
	text, err := c.read("cpu.pressure")
	if text == "" || err != nil {
		return 0, err
	}
	// some avg10=0.49 avg60=1.07 avg300=20.75 total=44188066019
	for field := range strings.FieldsSeq(text) {
		if total, ok := strings.CutPrefix(field, "total="); ok {
			n, err := strconv.ParseInt(total, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("reading cpu.pressure of the cgroup: %w", err)
			}
			return time.Duration(n) * time.Microsecond, nil // that of "some", which is first
		}
	}
	return 0, fmt.Errorf("reading cpu.pressure of the cgroup: it has no total")
}

// memoryLimit returns the group's memory limit in bytes, 0 without one.
func (c *cgroup) memoryLimit() (int64, error) {
	most, err := c.read("memory.max")
	if most == "" || most == "max" || err != nil {
		return 0, err
	}
	limit, err := strconv.ParseInt(most, 10, 64)
	if err != nil || limit <= 0 {
		return 0, fmt.Errorf("reading memory.max of the cgroup: %q is no limit", most)
	}
	return limit, nil
}

// memory returns the share of the group's memory limit that is in use, apart from files that
// can be dropped; 0 without a limit.
func (c *cgroup) memory() (float64, error) {
	limit, err := c.memoryLimit()
	if limit == 0 || err != nil {
		return 0, err
	}
	text, err := c.read("memory.current")
	if err != nil {
		return 0, err
	}
	used, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading memory.current of the cgroup: %w", err)
	}
	stat, err := c.read("memory.stat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(stat) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "inactive_file "); ok {
			files, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("reading memory.stat of the cgroup: %w", err)
			}
			used -= min(files, used)
		}
	}
	return float64(used) / float64(limit), nil
}

// read returns what a file of the group says, empty if there is no such file or the kernel does
// not support it.
func (c *cgroup) read(name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the cgroup: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
