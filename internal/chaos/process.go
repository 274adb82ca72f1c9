//go:build linux

package chaos

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

// process is a child of this program. The kernel kills it when this program dies.
type process struct {
	name string
	path string
	args []string
	env  []string
	log  *os.File

	mu      sync.Mutex
	cmd     *exec.Cmd     // nil while it does not run; guarded by mu
	exited  chan struct{} // closed when cmd has ended; guarded by mu
	meant   bool          // it was told to end; guarded by mu
	started time.Time     // guarded by mu
	// surprise is called when the process ends without having been told to.
	surprise func(what string)
}

// termWait bounds how long a process may take to end by itself.
const termWait = 30 * time.Second

// start starts the process.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(p.path, p.args...) //nolint:noctx // stop and kill end it
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited, p.meant, p.started = cmd, exited, false, time.Now()
	go p.wait(cmd, exited)
	return nil
}

func (p *process) wait(cmd *exec.Cmd, exited chan struct{}) {
	_ = cmd.Wait() // the state says how it ended
	p.mu.Lock()
	meant := p.meant
	p.cmd = nil
	p.mu.Unlock()
	close(exited)
	if !meant && p.surprise != nil {
		p.surprise(fmt.Sprintf("%s ended by itself (%s): %s", p.name, cmd.ProcessState, lastLine(p.log.Name())))
	}
}

// lastLine returns the last line of a file.
func lastLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// kill ends the process at once, as a crash does.
func (p *process) kill() { p.end(syscall.SIGKILL) }

// stop asks the process to end and waits for it. The error says that it did not.
func (p *process) stop() error {
	if !p.end(syscall.SIGTERM) {
		p.end(syscall.SIGKILL)
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.name, termWait)
	}
	return nil
}

// end sends a signal that ends the process and reports whether it did.
func (p *process) end(s syscall.Signal) bool {
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

// freeze stops the process where it is, thaw lets it go on.
func (p *process) freeze() { p.signal(syscall.SIGSTOP) }
func (p *process) thaw()   { p.signal(syscall.SIGCONT) }

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s)
	}
}

func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

// resident returns the bytes of memory that the process holds, 0 when it does not run.
func (p *process) resident() int64 {
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

// files returns how many files the process has open, 0 when it does not run.
func (p *process) files() int {
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
