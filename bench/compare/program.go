package compare

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Program is a program of a contender that runs in the background. It is used by one goroutine.
type Program struct {
	cmd    *exec.Cmd
	exited chan struct{}
	// err is what waiting for it returned. It is read after exited.
	err error
}

// StartProgram runs a program whose messages go to the standard error. It ends with ctx, and with
// this process.
func StartProgram(ctx context.Context, path string, arguments ...string) (*Program, error) {
	cmd := exec.CommandContext(ctx, path, arguments...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return RunProgram(cmd)
}

// RunProgram runs a command that was not started, as [StartProgram] does. It ends with this process.
func RunProgram(cmd *exec.Cmd) (*Program, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Program{cmd: cmd, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// PID returns the id of the process.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the program has ended.
func (p *Program) Exited() <-chan struct{} { return p.exited }

// Stop sends SIGTERM and waits, ten seconds at most; then the program is killed. Its exit code does
// not matter.
func (p *Program) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	late := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.exited
	if _, exited := errors.AsType[*exec.ExitError](p.err); p.err != nil && !exited {
		return p.err
	}
	return nil
}
