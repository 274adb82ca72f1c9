//go:build linux

package machine

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command says how a process is started.
type Command struct {
	Name, Path string
	Args       []string
	// Env is added to the environment of this program.
	Env []string
	// Log receives what the process writes.
	Log *os.File
	// Ended is called when the process ends without having been told to.
	Ended func(what string)
}

// Process is a child of this program. The kernel kills it when this program dies.
type Process struct {
	Command

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil while it does not run; guarded by mu
	exited chan struct{} // closed when cmd has ended; guarded by mu
	meant  bool          // it was told to end; guarded by mu
}

// NewProcess returns a process that is not started yet.
func NewProcess(c Command) *Process { return &Process{Command: c} }

// termWait bounds how long a process may take to end by itself.
const termWait = 30 * time.Second

// Start starts the process.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(p.Path, p.Args...) //nolint:noctx // Stop and kill end it
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = p.Log, p.Log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited, p.meant = cmd, exited, false
	go p.wait(cmd, exited)
	return nil
}

func (p *Process) wait(cmd *exec.Cmd, exited chan struct{}) {
	_ = cmd.Wait() // the state says how it ended
	p.mu.Lock()
	meant := p.meant
	p.cmd = nil
	p.mu.Unlock()
	close(exited)
	if !meant && p.Ended != nil {
		p.Ended(fmt.Sprintf("%s ended by itself (%s): %s", p.Name, cmd.ProcessState, LastLine(p.Log.Name())))
	}
}

// LastLine returns the last line of a file.
func LastLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// Kill ends the process at once, as a crash does.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Stop asks the process to end and waits for it. The error says that it did not.
func (p *Process) Stop() error {
	if !p.end(syscall.SIGTERM) {
		p.end(syscall.SIGKILL)
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.Name, termWait)
	}
	return nil
}

// end sends a signal that ends the process and reports whether it did.
func (p *Process) end(s syscall.Signal) bool {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.meant = true
	if cmd != nil {
		_ = cmd.Process.Signal(s)
		_ = cmd.Process.Signal(syscall.SIGCONT) // one that stands still cannot end
	}
	p.mu.Unlock()
	if cmd == nil {
		return true
	}
	select {
	case <-exited:
		return true
	case <-time.After(termWait):
		return false
	}
}

// Freeze stops the process where it is.
func (p *Process) Freeze() { p.signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (p *Process) Thaw() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s)
	}
}

// Running reports whether the process runs.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

// Resident returns the bytes of memory that the process holds, 0 when it does not run.
func (p *Process) Resident() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// Files returns how many files the process has open, 0 when it does not run.
func (p *Process) Files() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
