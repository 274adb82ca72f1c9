package compare

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// machine tells what the figures depend on, in phrases. What cannot be read is left out.
func machine() []string {
	facts := []string{fmt.Sprintf("%d cores", runtime.NumCPU())}
	if model, ok := field("/proc/cpuinfo", "model name"); ok {
		facts[0] += " of " + model
	}
	if total, ok := field("/proc/meminfo", "MemTotal"); ok {
		if kib, err := strconv.ParseInt(strings.TrimSuffix(total, " kB"), 10, 64); err == nil {
			facts = append(facts, fmt.Sprintf("%.0f GiB of memory", float64(kib)/(1<<20)))
		}
	}
	if name, ok := field("/etc/os-release", "PRETTY_NAME"); ok {
		facts = append(facts, strings.Trim(name, `"`))
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		facts = append(facts, "Linux "+strings.TrimSpace(string(release)))
	}
	return append(facts, runtime.Version())
}

// field returns the first value of a name in a file of lines "name: value" or "name=value".
func field(path, name string) (string, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(data)) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			key, value, ok = strings.Cut(line, "=")
		}
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}
