package compare

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
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
}

// clockTick is the unit of /proc's times, which is the same on all architectures of Linux.
const clockTick = 10 * time.Millisecond

// cpuTime returns the CPU time that a process has used, in user and in kernel mode.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name of the program is in parentheses and may contain anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const user, kernel = 11, 12
	if len(fields) <= kernel {
		return 0, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	var ticks int64
	for _, field := range fields[user : kernel+1] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// resident returns the resident memory of a process in bytes.
func resident(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc has no VmRSS")
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
func byRole[T int64 | time.Duration](processes []Process, read func(pid int) (T, error)) (map[string]T, error) {
	figures := make(map[string]T)
	for _, p := range processes {
		n, err := read(p.PID)
		if err != nil {
			return nil, fmt.Errorf("reading the figures of the %s: %w", p.Role, err)
		}
		figures[p.Role] += n
	}
	return figures, nil
}
