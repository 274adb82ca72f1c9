package peers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/rebound-mq/rebound/bench/compare"
)

// debianPostgres is where Debian keeps the programs of each version.
const debianPostgres = "/usr/lib/postgresql/*/bin"

// startPostgres starts a PostgreSQL with a new cluster and the settings of initdb. It listens on a
// socket in its directory only. It returns what to connect with.
func startPostgres(ctx context.Context, dir string) (*compare.Program, string, error) {
	initdb, initErr := postgresProgram("initdb")
	postgres, err := postgresProgram("postgres")
	if err := errors.Join(initErr, err); err != nil {
		return nil, "", err
	}
	account, err := serverAccount("postgres", "nobody")
	if err != nil {
		return nil, "", err
	}
	home := filepath.Join(dir, "postgres")
	if err := makeHome(home, account); err != nil {
		return nil, "", err
	}
	data, log := filepath.Join(home, "data"), filepath.Join(dir, "postgres.log")
	command := func(path string, arguments ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, path, arguments...)
		cmd.Dir, cmd.SysProcAttr = home, &syscall.SysProcAttr{Credential: account}
		return cmd
	}
	out, err := command(initdb, "-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale").CombinedOutput()
	if err != nil {
		return nil, "", fmt.Errorf("making a PostgreSQL cluster: %w: %s", err, out)
	}
	file, err := os.Create(log)
	if err != nil {
		return nil, "", err
	}
	defer file.Close()
	server := command(postgres, "-D", data, "-k", home, "-c", "listen_addresses=")
	server.Stdout, server.Stderr = file, file
	p, err := compare.RunProgram(server)
	if err != nil {
		return nil, "", err
	}
	address := fmt.Sprintf("host=%s user=bench dbname=postgres", home)
	if err := awaitReady(ctx, p, log, func(ctx context.Context) error { return pingPostgres(ctx, address) }); err != nil {
		return nil, "", errors.Join(err, p.Stop())
	}
	return p, address, nil
}

func pingPostgres(ctx context.Context, address string) error {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// postgresProgram returns the path of a program of the newest version in Debian's place, or else of
// that on PATH.
func postgresProgram(name string) (string, error) {
	found, err := filepath.Glob(filepath.Join(debianPostgres, name))
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return exec.LookPath(name)
	}
	// A longer path has a higher version, because the paths differ in its number only.
	return slices.MaxFunc(found, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }), nil
}

// makeHome makes a directory that account owns and reaches. A nil account is this process's.
func makeHome(home string, account *syscall.Credential) error {
	if err := os.Mkdir(home, 0o700); err != nil || account == nil {
		return err
	}
	if err := os.Chmod(filepath.Dir(home), 0o711); err != nil {
		return err
	}
	return os.Chown(home, int(account.Uid), int(account.Gid))
}

// serverAccount returns the first account that exists, for a server that refuses to run as root. It
// returns nil if this process is not root's.
func serverAccount(names ...string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range names {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("the account %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("PostgreSQL refuses to run as root, and none of the accounts %v exists", names)
}
