//go:build linux

package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ClockVariable sets the clock of a program built by [BuildClocked]: pairs of milliseconds since
// the program's start and the seconds by which the clock is wrong from then on.
const ClockVariable = "CHAOS_CLOCK"

// clockSource is added to the standard library's package time. The monotonic clock stays right,
// as when a real clock is set.
const clockSource = `package time

import "syscall"

type clockStep struct{ after, seconds int64 }

var clockSteps = readClockSteps()

func readClockSteps() (steps []clockStep) {
	text, _ := syscall.Getenv("` + ClockVariable + `")
	var numbers []int64
	n, sign, digits := int64(0), int64(1), false
	for _, c := range text + " " {
		switch {
		case c == '-':
			sign = -1
		case '0' <= c && c <= '9':
			n, digits = n*10+int64(c-'0'), true
		case digits:
			numbers = append(numbers, sign*n)
			n, sign, digits = 0, 1, false
		}
	}
	for i := 0; i+1 < len(numbers); i += 2 {
		steps = append(steps, clockStep{numbers[i] * 1e6, numbers[i+1]})
	}
	return steps
}

func clockError(mono int64) (seconds int64) {
	for _, s := range clockSteps {
		if mono-startNano >= s.after {
			seconds = s.seconds
		}
	}
	return seconds
}
`

// BuildClocked builds the program of a package so that [ClockVariable] sets its clock. A
// preloaded library could not do that, because Go asks the kernel for the time directly.
func BuildClocked(ctx context.Context, dir, output, from string) error {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("finding the standard library: %w", err)
	}
	library := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(library, "time.go"))
	if err != nil {
		return err
	}
	const reads = "sec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), reads) != 1 {
		return fmt.Errorf("%w: package time of %s reads the clock differently", ErrNotHere, library)
	}
	overlay := make(map[string]string)
	for name, text := range map[string]string{
		"time.go":       strings.Replace(string(source), reads, reads+"\tsec += clockError(mono)\n", 1),
		"clock_step.go": clockSource,
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		overlay[filepath.Join(library, name)] = file
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	if text, err := exec.CommandContext(ctx, "go", "build", "-overlay", file, "-o", output, from).CombinedOutput(); err != nil {
		return fmt.Errorf("building %s with a clock that can be set: %w\n%s", from, err, text)
	}
	return nil
}
