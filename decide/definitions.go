package decide

type DefinitionKeys map[string][][]byte

func (h *Handler) definitions(x *exchange) *apiError { return errNotFound }
