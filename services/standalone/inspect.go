package standalone

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"github.com/postrider/postrider/pkg/seal"
)

// State is how a data folder stands.
type State struct {
	// Missing says that there is no such folder: the first start makes it. All below is zero then.
	Missing bool
	// Running names the process that uses the folder; empty: none does.
	Running string
	// AdminKey and EncryptionKey say what is wrong with the files that keep them, or nil. What is not
	// there yet is no fault.
	AdminKey, EncryptionKey error
	// Free is how many bytes there is room for on the folder's disk; negative if that cannot be told.
	Free int64
	// Streams are the names of the streams that NATS has stored there.
	Streams []string
}

// Inspect looks at a data folder. It changes nothing; for a moment it holds the lock that readers share.
func Inspect(cfg Config) (State, error) {
	var s State
	if _, err := os.Stat(cfg.DataDir); errors.Is(err, fs.ErrNotExist) {
		s.Missing = true
		return s, nil
	}
	var err error
	if s.Running, err = holder(cfg.path(lockFile)); err != nil {
		return s, err
	}
	s.Free = -1
	if free, ok := freeBytes(cfg.DataDir); ok {
		s.Free = free
	}
	_, s.AdminKey = stored(cfg.path(AdminKeyFile))
	if keyset := cfg.EncryptionKey.Reveal(); keyset != "" {
		_, s.EncryptionKey = seal.Parse(keyset)
	} else if keyset, s.EncryptionKey = stored(cfg.path(encryptionKeyFile)); s.EncryptionKey == nil && keyset != "" {
		_, s.EncryptionKey = seal.Parse(keyset)
	}
	folders, err := filepath.Glob(filepath.Join(cfg.path(natsDir), "jetstream", "$G", "streams", "*"))
	for _, f := range folders {
		s.Streams = append(s.Streams, filepath.Base(f))
	}
	return s, err
}

// holder is the process that holds a lock.
func holder(path string) (string, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the folder
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	file := flock.New(path, flock.SetFlag(os.O_RDONLY))
	free, err := file.TryRLock()
	if err != nil {
		return "", err
	}
	if free {
		return "", file.Close()
	}
	return "process " + strings.TrimSpace(string(text)), nil
}

// stored is the secret that a file keeps; empty without an error if there is no such file.
func stored(path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", errors.New(path + " can be read by other users of this machine")
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the folder
	if err != nil {
		return "", err
	}
	if len(strings.TrimSpace(string(text))) == 0 {
		return "", errors.New(path + " is empty")
	}
	return strings.TrimSpace(string(text)), nil
}
