package compare

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Roles of processes.
const (
	// RoleService is the process that brings operations back, RoleServer the one that stores
	// them, and RoleBoth one that does both.
	RoleService = "service"
	RoleServer  = "server"
	RoleBoth    = "service+server"
	// RoleHarness is this process: it submits and is the target.
	RoleHarness = "harness"
)

// Process is a process of a contender. Several may have one role, whose figures are added up.
type Process struct {
	Role string
	PID  int
	// Descendants says that the figures include those of all processes that it started.
	Descendants bool
}

// clockTick is the unit of /proc's times, which is the same on all architectures of Linux.
const clockTick = 10 * time.Millisecond

// cpuTime returns the CPU time that a process has used, in user and in kernel mode.
func cpuTime(p Process) (time.Duration, error) {
	if !p.Descendants {
		s, err := readStat(p.PID)
		return s.own, err
	}
	members, err := family(p.PID)
	var sum time.Duration
	for _, m := range members {
		sum += m.own + m.children
	}
	return sum, err
}

// resident returns the resident memory of a process in bytes. Memory that several descendants share
// counts once.
func resident(p Process) (int64, error) {
	if !p.Descendants {
		return memoryField(p.PID, "status", "VmRSS:")
	}
	members, err := family(p.PID)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, m := range members {
		n, err := memoryField(m.pid, "smaps_rollup", "Pss:")
		if err != nil && !ended(err) {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// memoryField returns a field in bytes of a file that /proc has of a process.
func memoryField(pid int, file, name string) (int64, error) {
	path := fmt.Sprintf("/proc/%d/%s", pid, file)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, strings.TrimSuffix(name, ":"))
}

// stat is what /proc/<pid>/stat says of a process.
type stat struct {
	pid, parent int
	// own is its CPU time, and children that of its children that have ended.
	own, children time.Duration
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	s, err := parseStat(text)
	if err != nil {
		return stat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	s.pid = pid
	return s, nil
}

// parseStat reads all but the id, which a caller knows.
func parseStat(text []byte) (stat, error) {
	// The name of the program is in parentheses and may contain anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	wanted := []int{1, 11, 12, 13, 14} // the parent, then user and kernel mode of itself and of its children
	numbers := make([]int, len(wanted))
	for i, at := range wanted {
		if len(fields) <= at {
			return stat{}, errors.New("too short")
		}
		n, err := strconv.Atoi(fields[at])
		if err != nil {
			return stat{}, err
		}
		numbers[i] = n
	}
	return stat{
		parent:   numbers[0],
		own:      time.Duration(numbers[1]+numbers[2]) * clockTick,
		children: time.Duration(numbers[3]+numbers[4]) * clockTick,
	}, nil
}

// family returns a process and all its descendants.
func family(pid int) ([]stat, error) {
	first, err := readStat(pid)
	if err != nil {
		return nil, err
	}
	directories, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := make(map[int][]stat)
	for _, d := range directories {
		id, err := strconv.Atoi(d.Name())
		if err != nil {
			continue // it is not of a process
		}
		s, err := readStat(id)
		if ended(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		children[s.parent] = append(children[s.parent], s)
	}
	members := []stat{first}
	for i := 0; i < len(members); i++ {
		members = append(members, children[members[i].pid]...)
	}
	return members, nil
}

// ended reports whether a file of /proc was not read because its process has ended.
func ended(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// loadAverage returns the load average of the last minute.
func loadAverage() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "-"
	}
	one, _, _ := strings.Cut(string(data), " ")
	return one
}

// byRole reads a figure of each process and adds up those of one role.
func byRole[T int64 | time.Duration](processes []Process, read func(Process) (T, error)) (map[string]T, error) {
	figures := make(map[string]T)
	for _, p := range processes {
		n, err := read(p)
		if err != nil {
			return nil, fmt.Errorf("reading the figures of the %s: %w", p.Role, err)
		}
		figures[p.Role] += n
	}
	return figures, nil
}
