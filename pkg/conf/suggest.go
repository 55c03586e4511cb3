package conf

// suggest returns a hint that names the option a wrong name was probably meant to be, or nothing
// when none is near.
func (l *loader) suggest(name, prefix string, show func(Option) string) string {
	best, distance := "", len(name)/3+2 // farther away than that, a hint only confuses
	for _, f := range l.fields {
		if d := editDistance(name, f.Name); d < distance {
			best, distance = prefix+show(f.Option), d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// editDistance counts the single changes that lead from one text to the other. An underscore in
// place of a dash counts as none, since that is how the environment writes it.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] || (a[i] == '_' && b[j] == '-') {
				cost = 0
			}
			previous, row[j+1] = row[j+1], min(previous+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
