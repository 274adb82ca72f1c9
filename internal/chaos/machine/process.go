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

// Command describes how to start a process.
type Command struct {
	Name, Path string
	Args       []string
	// Env is added to the environment of this program.
	Env []string
	// Log receives the output of the process.
	Log *os.File
	// Ended is called when the process exits by itself.
	Ended func(what string)
}

// Process is a child of this program. The kernel kills it when this program dies.
type Process struct {
	Command

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil while not running; guarded by mu
	exited chan struct{} // closed when cmd has ended; guarded by mu
	ending bool          // Kill or Stop was called; guarded by mu
}

// NewProcess returns a process that is not yet started.
func NewProcess(c Command) *Process { return &Process{Command: c} }

// termWait bounds how long a process may take to exit.
const termWait = 30 * time.Second

// Start starts the process.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(p.Path, p.Args...) //nolint:noctx // Stop and Kill end it
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = p.Log, p.Log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited, p.ending = cmd, exited, false
	go p.wait(cmd, exited)
	return nil
}

func (p *Process) wait(cmd *exec.Cmd, exited chan struct{}) {
	_ = cmd.Wait() // ProcessState has the result
	p.mu.Lock()
	ending := p.ending
	p.cmd = nil
	p.mu.Unlock()
	close(exited)
	if !ending && p.Ended != nil {
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

// Kill ends the process at once, like a crash.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Stop asks the process to exit and waits for it. If it does not exit in time, Stop kills it and
// returns an error.
func (p *Process) Stop() error {
	if !p.end(syscall.SIGTERM) {
		p.end(syscall.SIGKILL)
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.Name, termWait)
	}
	return nil
}

// end sends a signal that ends the process and reports whether it exited in time.
func (p *Process) end(s syscall.Signal) bool {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.ending = true
	if cmd != nil {
		_ = cmd.Process.Signal(s)
		_ = cmd.Process.Signal(syscall.SIGCONT) // a frozen process cannot exit
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

// Freeze suspends the process.
func (p *Process) Freeze() { p.signal(syscall.SIGSTOP) }

// Thaw resumes a frozen process.
func (p *Process) Thaw() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s)
	}
}

// Running reports whether the process is running.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

// Resident returns the resident memory of the process in bytes, 0 if it is not running.
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

// Files returns the number of open files of the process, 0 if it is not running.
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
