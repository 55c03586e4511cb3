package conf

import (
	"fmt"
	"strings"
)

// markdownName is the flag that alone prints Markdown in place of running: the documentation is
// made with it.
const markdownName = "help-markdown"

// Describe returns the options of a configuration, which is a pointer to a struct that holds its
// defaults, in the order of its fields.
func Describe(cfg any) []Option {
	fields, _ := collect(cfg)
	options := make([]Option, len(fields))
	for i, f := range fields {
		options[i] = f.Option
	}
	return options
}

// usage returns what -h prints.
func usage(program string, fields []field) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s [flags]\n\n", program)
	b.WriteString("Flags are stronger than environment variables, and those than the YAML file.\n\n")
	fmt.Fprintf(&b, "  --%s string (%s)\n        the YAML file to read\n", configName, envName(configName))
	for _, f := range fields {
		fmt.Fprintf(&b, "  %s %s (%s)\n        %s", f.Flag, f.Type, f.Env, f.Help)
		if f.Default != "" {
			fmt.Fprintf(&b, " (default %s)", f.Default)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "  --%s\n        print these options as Markdown, and nothing else\n", markdownName)
	return b.String()
}

// Markdown returns a section of documentation: a heading and a table of the configuration's
// options with their defaults. cfg is what Describe takes.
func Markdown(title string, cfg any) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n", title)
	b.WriteString("| Flag | Environment | YAML | Type | Default | Meaning |\n|---|---|---|---|---|---|\n")
	row(&b, Option{
		Flag: "--" + configName, Env: envName(configName), Type: "string", Help: "the YAML file to read",
	})
	for _, o := range Describe(cfg) {
		row(&b, o)
	}
	return b.String()
}

// row writes one option as a row of the table.
func row(b *strings.Builder, o Option) {
	fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n",
		code(o.Flag), code(o.Env), code(o.Key), o.Type, code(o.Default), cell(o.Help))
}

// code writes a cell in code font, or an empty one.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + cell(text) + "`"
}

// cell keeps a text inside its cell.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
