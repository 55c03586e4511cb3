package doctor

import (
	"context"
	"path/filepath"

	"github.com/postrider/postrider/services/standalone"
)

// Folder looks at the data folder of "postrider up" and at what its configuration names. The NATS server
// listens nowhere there, so that only what it stored can be seen.
func Folder(ctx context.Context, cfg *standalone.Config, url string) *Report {
	r := &Report{}
	r.ok("configuration", "every option has a value that postrider up takes")
	r.folder(cfg)
	log := cfg.API
	if !filepath.IsAbs(log.LogFile) {
		log.LogFile = filepath.Join(cfg.DataDir, log.LogFile)
	}
	r.log(ctx, log)
	r.redis(ctx, cfg.Redis, false)
	r.egress(ctx, cfg.Dispatcher.Egress, url)
	return r
}

func (r *Report) folder(cfg *standalone.Config) {
	s, err := standalone.Inspect(*cfg)
	switch {
	case err != nil:
		r.fail("data folder", "let this user read the folder", "%v", err)
		return
	case s.Missing:
		r.warn("data folder", `run "postrider up", which makes it, or name another with --data-dir`, "there is no folder %s", cfg.DataDir)
		return
	case s.Running != "":
		r.ok("data folder", "%s is in use by %s", cfg.DataDir, s.Running)
	default:
		r.ok("data folder", "%s is used by no process", cfg.DataDir)
	}
	r.disk(s.Free)
	r.key("admin key", s.AdminKey)
	r.key("encryption key", s.EncryptionKey)
	if len(s.Streams) == 0 {
		r.warn("streams", `run "postrider up": it makes them`, "nothing is stored yet")
		return
	}
	r.ok("streams", "%d streams and buckets are stored", len(s.Streams))
}

// Room on a disk, in bytes. NATS stops storing when there is none, and does not go on by itself.
const (
	diskWarning = 1 << 30
	diskFailure = 100 << 20
)

func (r *Report) disk(free int64) {
	const mend = "make room on the disk: NATS refuses everything when it is full, and goes on only after a restart"
	switch {
	case free < 0: // it cannot be told here
	case free < diskFailure:
		r.fail("disk", mend, "%s are free", size(free))
	case free < diskWarning:
		r.warn("disk", mend, "%s are free", size(free))
	default:
		r.ok("disk", "%s are free", size(free))
	}
}

// key judges the file of a secret.
func (r *Report) key(check string, err error) {
	if err != nil {
		r.fail(check, "put the file back as it was, readable by its owner alone (chmod 600)", "%v", err)
		return
	}
	r.ok(check, "it can be read, by its owner alone")
}
