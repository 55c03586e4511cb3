package standalone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// lock keeps other processes off a data folder. The operating system gives it up with the process,
// however that ends; the file stays and says who held it last.
type lock struct{ file *flock.Flock }

// acquire makes the folder and locks it.
func acquire(dir string) (*lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	path := filepath.Join(dir, lockFile)
	l := &lock{file: flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))}
	ok, err := l.file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if !ok {
		holder := "another process"
		if text, err := os.ReadFile(path); err == nil && len(text) > 0 { //nolint:gosec // the operator names the folder
			holder = "process " + strings.TrimSpace(string(text))
		}
		return nil, fmt.Errorf("%s is in use by %s: stop that one, or choose another folder with --data-dir", dir, holder)
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the data folder: %w", err), l.file.Close())
	}
	return l, nil
}

// release lets others use the folder.
func (l *lock) release(context.Context) error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("unlock the data folder: %w", err)
	}
	return nil
}

// kept is the secret that a file keeps; it is made with generate when there is no such file.
func kept(path string, generate func() (string, error)) (string, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the folder
	if err == nil {
		if secret := strings.TrimSpace(string(text)); secret != "" {
			return secret, nil
		}
		return "", fmt.Errorf("%s is empty: remove it to have it made anew, which loses what was made with it", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read a key: %w", err)
	}
	secret, err := generate()
	if err != nil {
		return "", fmt.Errorf("make %s: %w", path, err)
	}
	return secret, keep(path, secret)
}

// keep stores a secret in a file that only its owner may read. The file is whole and on disk when
// keep returns: what is encrypted with a key must not outlive it.
func keep(path, secret string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("keep a key: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
			err = fmt.Errorf("keep a key in %s: %w", path, err)
		}
	}()
	_, werr := tmp.WriteString(secret + "\n")
	if err := errors.Join(werr, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir puts the names in a folder on disk.
func syncDir(path string) error {
	dir, err := os.Open(path) //nolint:gosec // the operator names the folder
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
