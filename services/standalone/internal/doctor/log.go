package doctor

import (
	"context"

	"github.com/postrider/postrider/services/api"
)

// log looks at the delivery log, and returns the journal's consumer that fills it, if there is one.
func (r *Report) log(ctx context.Context, cfg api.Config) (consumer string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l, err := api.InspectLog(ctx, cfg)
	switch {
	case err != nil:
		r.fail("delivery log", "see that the database runs and that POSTRIDER_API_LOG_URL, or the file, is right; deliveries go on meanwhile", "%v", err)
		return ""
	case l.Missing:
		r.warn("delivery log", "start an api: it makes it; the SQLite file is on the api's own disk", "there is no delivery log (%s) yet, or not here", l.Kind)
		return ""
	case l.Schema < l.Wanted:
		r.warn("delivery log", "start an api of this version: it brings the schema up to date", "the schema of the log has version %d, and this program's is %d", l.Schema, l.Wanted)
	case l.Schema > l.Wanted:
		r.fail("delivery log", "use the version of postrider that the api processes have, or a later one", "the schema of the log has version %d, later than this program's %d", l.Schema, l.Wanted)
	case l.Incomplete:
		r.warn("delivery log", "wait: it answers when it has read the journal", "the log is being built from the journal")
	default:
		r.ok("delivery log", "%s, schema version %d", l.Kind, l.Schema)
	}
	return l.Consumer
}
