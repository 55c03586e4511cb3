package conf

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Fault is one thing that is wrong with one option. Load adds where the option can be set.
type Fault struct {
	Name string // the option's name within the configuration that reports it
	Rule string // what must hold, beginning with "must"
}

// Error returns the option and the rule.
func (f *Fault) Error() string { return f.Name + ": " + f.Rule }

// Rule returns a fault when the condition does not hold.
func Rule(holds bool, name, rule string) error {
	if holds {
		return nil
	}
	return &Fault{Name: name, Rule: rule}
}

// Positive requires a duration above zero.
func Positive(name string, d time.Duration) error {
	return Rule(d > 0, name, "must be above zero")
}

// Between requires a value from lo to hi, both included.
func Between[T cmp.Ordered](name string, v, lo, hi T) error {
	if v >= lo && v <= hi {
		return nil
	}
	return &Fault{Name: name, Rule: fmt.Sprintf("must be from %v to %v, not %v", lo, hi, v)}
}

// AtLeast requires a value that is not below lo.
func AtLeast[T cmp.Ordered](name string, v, lo T) error {
	if v >= lo {
		return nil
	}
	return &Fault{Name: name, Rule: fmt.Sprintf("must be at least %v, not %v", lo, v)}
}

// NotEmpty requires a value.
func NotEmpty(name, v string) error {
	return Rule(v != "", name, "must be set")
}

// OneOf requires one of the values.
func OneOf[T ~string](name string, v T, allowed ...T) error {
	if slices.Contains(allowed, v) {
		return nil
	}
	return &Fault{Name: name, Rule: fmt.Sprintf("must be one of %v", allowed)}
}

// Prefix returns the faults of an inner configuration under the name that the outer one gives it.
// Only constructors that validate more than their own options need it: Load prefixes by itself.
func Prefix(name string, err error) error {
	if err == nil {
		return nil
	}
	var out []error
	for _, e := range flatten(err) {
		if f, ok := errors.AsType[*Fault](e); ok {
			e = &Fault{Name: name + "-" + f.Name, Rule: f.Rule}
		}
		out = append(out, e)
	}
	return errors.Join(out...)
}

// flatten returns the errors that were joined, or the error alone.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, flatten(e)...)
	}
	return out
}
