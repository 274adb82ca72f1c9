//go:build unix

package testkit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rebound-mq/rebound/internal/testkit/natsd"
)

const (
	// startTimeout bounds the start of one server or process on a busy machine.
	startTimeout = 60 * time.Second
	// stopTimeout bounds the end of one.
	stopTimeout = 60 * time.Second
)

// natsProcess is a NATS server in its own process. It is safe for concurrent use.
type natsProcess struct {
	cmd    *exec.Cmd
	exited chan struct{}

	mu      sync.Mutex // guards input and answers, so that each request is followed by its answer
	input   io.WriteCloser
	answers *json.Decoder
}

// startNATS starts a server that logs to log, and waits until it is ready.
func startNATS(c natsd.Config, log io.Writer) (*natsProcess, error) {
	program, err := natsProgram()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program) //nolint:gosec,noctx // built here; stopped by stop
	cmd.Stderr = log
	p := &natsProcess{cmd: cmd, exited: make(chan struct{})}
	if p.input, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	// Use a pipe of our own, because Wait would close one made by exec before it is read.
	out, outWriter, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = outWriter
	err = cmd.Start()
	_ = outWriter.Close()
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	p.answers = json.NewDecoder(out)
	go func() {
		defer close(p.exited)
		_ = cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		_ = out.Close()
	}()
	if err := p.begin(c); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// begin sends the configuration to the program.
func (p *natsProcess) begin(c natsd.Config) error {
	config, err := json.Marshal(c)
	if err == nil {
		_, err = p.exchange(config)
	}
	return err
}

// state asks the server for its state.
func (p *natsProcess) state() (natsd.State, error) { return p.exchange(nil) }

func (p *natsProcess) exchange(line []byte) (natsd.State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var s natsd.State
	_, err := p.input.Write(append(line, '\n'))
	// An error reported by the program is more specific than its closed input.
	if answerErr := p.answers.Decode(&s); answerErr != nil {
		return natsd.State{}, errors.Join(answerErr, err)
	}
	if s.Error != "" {
		return natsd.State{}, errors.New(s.Error)
	}
	return s, nil
}

// stop ends the server and waits for it.
func (p *natsProcess) stop() {
	_ = p.input.Close()
	timeout := time.NewTimer(stopTimeout)
	defer timeout.Stop()
	select {
	case <-p.exited:
	case <-timeout.C:
		p.kill()
	}
}

// signal sends a signal to the process.
func (p *natsProcess) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// kill ends the server without any warning and waits for its end.
func (p *natsProcess) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
	_ = p.input.Close()
}

// environment is the environment of the test binary, before any test changed it.
var environment = os.Environ()

// natsProgram builds the program without the race detector and returns its path.
var natsProgram = sync.OnceValues(func() (string, error) {
	build := exec.Command("go", "list", "-m", "-f", "{{.Dir}}") //nolint:noctx // it ends by itself
	build.Env = environment
	root, err := build.Output()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	dir, err := programDir(strings.TrimSpace(string(root)))
	if err != nil {
		return "", err
	}
	// The tests of other packages may build it at the same time.
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	program := filepath.Join(dir, "natsd")
	build = exec.Command("go", "build", "-race=false", "-o", program, "github.com/rebound-mq/rebound/internal/testkit/natsd/cmd") //nolint:gosec,noctx // a constant package
	build.Env = environment
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the NATS server of the tests: %w\n%s", err, out)
	}
	return program, nil
})

// programDir returns the directory for the program of one work tree. It is inside of it, so
// that it goes when the work tree goes.
func programDir(root string) (string, error) {
	dir := filepath.Join(root, "bin", "testkit")
	return dir, os.MkdirAll(dir, 0o700)
}
