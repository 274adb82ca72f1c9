package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// lockName is the file in the store directory that a process locks while it uses the directory.
// The file stays; only the lock on it counts.
const lockName = "rebound.lock"

var errLocked = errors.New("locked")

// dirLock is a held lock of a store directory. The operating system releases it whenever the
// process ends.
type dirLock struct{ file *os.File }

// lockDir locks dir, or returns a [*LockError] that names the holder.
func lockDir(dir string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the directory
	if err != nil {
		return nil, &StoreError{Dir: dir, Err: err}
	}
	if err := tryLock(f); err != nil {
		defer f.Close()
		if errors.Is(err, errLocked) {
			return nil, &LockError{Dir: dir, Holder: holder(f)}
		}
		return nil, &StoreError{Dir: dir, Err: fmt.Errorf("locking %s: %w", lockName, err)}
	}
	l := &dirLock{file: f}
	if err := l.sign(); err != nil {
		l.release()
		return nil, &StoreError{Dir: dir, Err: err}
	}
	return l, nil
}

// sign writes the holder into the file, for others to read.
func (l *dirLock) sign() error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err = fmt.Fprintf(l.file, "process %d on %s, since %s\n",
		os.Getpid(), host, time.Now().Format(time.DateTime))
	return err
}

func (l *dirLock) release() {
	if l != nil {
		_ = l.file.Close() // closing the file releases its lock
	}
}

func holder(f *os.File) string {
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
