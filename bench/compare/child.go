package compare

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// ChildCommand is the first argument of this program when it runs as a part of a contender, in a
// process of its own.
const ChildCommand = "compare-child"

// Role is what a child process does. It is started with the arguments that [StartChild] was given,
// serves until ctx ends, and returns what its parent is to know, such as an address, and a function
// that answers calls.
type Role func(ctx context.Context, arguments json.RawMessage) (ready any, answer Answer, err error)

// Answer answers a call of the parent. It may be nil. It is called by one goroutine.
type Answer func(ctx context.Context, call string, arguments json.RawMessage) (any, error)

// callMallocs is the call that every child answers.
const callMallocs = "mallocs"

type request struct {
	Call      string          `json:"call"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
}

type response struct {
	Error string          `json:"error,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// Child is a process of this program that has a role. It is used by one goroutine.
type Child struct {
	cmd     *exec.Cmd
	calls   io.WriteCloser
	answers *json.Decoder
}

// StartChild runs a role in a process of its own, waits until it is ready and stores what it says
// then in ready, which may be nil. The child ends with its parent.
func StartChild(ctx context.Context, role string, arguments, ready any) (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(arguments)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, ChildCommand, role, string(encoded))
	cmd.Stderr = os.Stderr
	calls, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &Child{cmd: cmd, calls: calls, answers: json.NewDecoder(bufio.NewReader(answers))}
	if err := c.receive(ready); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the %s: %w", role, err), c.Stop())
	}
	return c, nil
}

// PID returns the id of the process.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Call has the child's [Answer] answer a call and stores what it returns in value, which may be nil.
func (c *Child) Call(call string, arguments, value any) error {
	encoded, err := json.Marshal(arguments)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(c.calls).Encode(request{Call: call, Arguments: encoded}); err != nil {
		return fmt.Errorf("calling %s: %w", call, err)
	}
	if err := c.receive(value); err != nil {
		return fmt.Errorf("calling %s: %w", call, err)
	}
	return nil
}

// Mallocs returns how many objects the child has allocated so far.
func (c *Child) Mallocs() (n uint64, err error) {
	err = c.Call(callMallocs, nil, &n)
	return n, err
}

// Stop ends the child and waits for it, ten seconds at most; then it is killed.
func (c *Child) Stop() error {
	if err := c.calls.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	late := time.AfterFunc(10*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	return c.cmd.Wait()
}

func (c *Child) receive(value any) error {
	var r response
	if err := c.answers.Decode(&r); err != nil {
		return err
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(r.Value, value)
}

// ServeChild runs the role that the arguments after [ChildCommand] name, until its parent closes
// the standard input or ends.
func ServeChild(ctx context.Context, roles map[string]Role, arguments []string) error {
	if len(arguments) != 2 {
		return fmt.Errorf("%s takes a role and its arguments", ChildCommand)
	}
	role, ok := roles[arguments[0]]
	if !ok {
		return fmt.Errorf("there is no role %q", arguments[0])
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	out := json.NewEncoder(os.Stdout)
	ready, answer, err := role(ctx, json.RawMessage(arguments[1]))
	if sent := send(out, ready, err); sent != nil || err != nil {
		return sent
	}
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var r request
		if err := in.Decode(&r); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		value, err := respond(ctx, answer, r)
		if err := send(out, value, err); err != nil {
			return err
		}
	}
}

func respond(ctx context.Context, answer Answer, r request) (any, error) {
	switch {
	case r.Call == callMallocs:
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.Mallocs, nil
	case answer == nil:
		return nil, fmt.Errorf("nothing answers %s", r.Call)
	}
	return answer(ctx, r.Call, r.Arguments)
}

func send(out *json.Encoder, value any, failed error) error {
	if failed != nil {
		return out.Encode(response{Error: failed.Error()})
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return out.Encode(response{Value: encoded})
}
