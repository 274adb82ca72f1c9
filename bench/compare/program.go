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
type Program struct{ cmd *exec.Cmd }

// StartProgram runs a program whose messages go to the standard error. It ends with ctx, and with
// this process.
func StartProgram(ctx context.Context, path string, arguments ...string) (*Program, error) {
	cmd := exec.CommandContext(ctx, path, arguments...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Program{cmd: cmd}, nil
}

// PID returns the id of the process.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Stop sends SIGTERM and waits, ten seconds at most; then the program is killed. Its exit code does
// not matter.
func (p *Program) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	late := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	if err := p.cmd.Wait(); err != nil {
		if _, exited := errors.AsType[*exec.ExitError](err); !exited {
			return err
		}
	}
	return nil
}
