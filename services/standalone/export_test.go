package standalone

// PagePatterns are those of every page and form that is served.
func (s *Service) PagePatterns() []string { return s.parts.api.PagePatterns() }
