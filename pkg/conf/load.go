package conf

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// loader is one run of Load: it collects faults and goes on.
type loader struct {
	program string
	fields  []field
	faults  []error
	refused map[string]bool // options with a fault already: a rule about their value would only repeat it
}

// load is Load.
func load(program string, cfg Validator, args []string, lookup func(string) (string, bool), out io.Writer) error {
	fields, groups := collect(cfg)
	if slices.Equal(args, []string{"--" + markdownName}) {
		if _, err := io.WriteString(out, Markdown(program, cfg)); err != nil {
			return fmt.Errorf("print the options: %w", err)
		}
		return ErrHelp
	}
	l := &loader{program: program, fields: fields, refused: map[string]bool{}}

	flags, file, err := l.parseFlags(args)
	if err != nil {
		if _, werr := io.WriteString(out, usage(program, fields)); werr != nil {
			return fmt.Errorf("print the help: %w", werr)
		}
		return err
	}
	if file == "" {
		file, _ = lookup(envName(configName))
	}
	// The weakest source first: each that follows overwrites what the ones before it set. All are
	// read before anything is judged, so that every fault is found in one go.
	if file != "" {
		l.readFile(file)
	}
	for i := range fields {
		if text, ok := lookup(fields[i].Env); ok {
			l.set(&fields[i], text)
		}
	}
	for i := range fields {
		for n, text := range flags[fields[i].Name] {
			l.setFlag(&fields[i], text, n > 0)
		}
	}
	l.validate(cfg, groups)
	return l.err()
}

// set gives an option a value, or notes why it cannot have it.
func (l *loader) set(f *field, text string) {
	if err := set(f.value, text); err != nil {
		l.fault(f, err.Error())
	}
}

// setFlag gives an option its value from a flag. A list's flag may be repeated and then adds to
// those before it; any other option takes the last.
func (l *loader) setFlag(f *field, text string, again bool) {
	list, ok := reflect.TypeAssert[*[]string](f.value.Addr())
	if !ok || !again {
		l.set(f, text)
		return
	}
	before := slices.Clone(*list)
	l.set(f, text)
	*list = append(before, *list...)
}

// fault notes that an option breaks a rule.
func (l *loader) fault(f *field, rule string) {
	l.refused[f.Name] = true
	l.note(fmt.Sprintf("%s (%s, %s): %s", f.Flag, f.Env, f.Key, rule))
}

// note adds a fault, once.
func (l *loader) note(text string) {
	if !slices.ContainsFunc(l.faults, func(e error) bool { return e.Error() == text }) {
		l.faults = append(l.faults, errors.New(text))
	}
}

// validate asks the configuration and its inner structs what is wrong with the values together.
func (l *loader) validate(cfg Validator, groups []group) {
	for _, g := range groups {
		l.judge(g.prefix, g.value.Validate())
	}
	l.judge("", cfg.Validate())
}

// judge adds what a Validate method found, each fault with every place where its option can be set.
func (l *loader) judge(prefix string, err error) {
	if err == nil {
		return
	}
	for _, e := range flatten(err) {
		f, ok := errors.AsType[*Fault](e)
		if !ok {
			l.note(e.Error())
			continue
		}
		name := prefix + strings.ReplaceAll(f.Name, "_", "-")
		i := slices.IndexFunc(l.fields, func(o field) bool { return o.Name == name })
		switch {
		case i < 0:
			l.note(prefix + f.Error())
		case !l.refused[name]:
			o := l.fields[i]
			l.note(fmt.Sprintf("%s (%s, %s): %s", o.Flag, o.Env, o.Key, f.Rule))
		}
	}
}

// err returns every fault, or nil.
func (l *loader) err() error {
	if len(l.faults) == 0 {
		return nil
	}
	return fmt.Errorf("the configuration of %s has %d fault(s):\n%w", l.program, len(l.faults), errors.Join(l.faults...))
}

// parseFlags returns the texts given by flags, in order, and the file that --config names. Its
// error is ErrHelp or nil; what is wrong with the flags is noted.
func (l *loader) parseFlags(args []string) (map[string][]string, string, error) {
	unknown := map[string]bool{}
	for {
		values, config := map[string][]string{}, ""
		fs := l.flagSet(values, &config, unknown, args)
		err := fs.Parse(args)
		var missing *pflag.NotExistError
		switch {
		case errors.Is(err, pflag.ErrHelp):
			return nil, "", ErrHelp
		case errors.As(err, &missing) && missing.GetSpecifiedShortnames() == "" && !unknown[missing.GetSpecifiedName()]:
			// pflag stops at the first flag it does not know. Declare it and parse again, so that
			// the ones behind it are judged too.
			name := missing.GetSpecifiedName()
			unknown[name] = true
			l.note("--" + name + ": there is no such flag" + l.suggest(name, "--", func(o Option) string { return o.Name }))
			continue
		case err != nil:
			l.note(err.Error())
		}
		for _, arg := range fs.Args() {
			l.note(fmt.Sprintf("%q: takes no arguments, only flags", arg))
		}
		return values, config, nil
	}
}

// flagSet declares every option, and the unknown flags met so far, as flags that keep their text.
func (l *loader) flagSet(values map[string][]string, config *string, unknown map[string]bool, args []string) *pflag.FlagSet {
	fs := pflag.NewFlagSet(l.program, pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.StringVar(config, configName, "", "")
	for _, f := range l.fields {
		flag := fs.VarPF(&recorder{values: values, name: f.Name}, f.Name, "", "")
		if f.Type == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
	for name := range unknown {
		flag := fs.VarPF(&recorder{}, name, "", "")
		if i := slices.Index(args, "--"+name); i >= 0 && (i+1 == len(args) || strings.HasPrefix(args[i+1], "-")) {
			flag.NoOptDefVal = "true" // nothing behind it that could be its value
		}
	}
	return fs
}

// recorder is a flag's value that keeps every text it is given and judges none.
type recorder struct {
	values map[string][]string
	name   string
}

// Set keeps the text.
func (r *recorder) Set(text string) error {
	if r.values != nil {
		r.values[r.name] = append(r.values[r.name], text)
	}
	return nil
}

// String returns nothing: the help is printed from the options themselves.
func (r *recorder) String() string { return "" }

// Type returns what pflag wants to hear.
func (r *recorder) Type() string { return "string" }
