package decide

func (h *Handler) ofrep(x *exchange, key string) *apiError { return errNotFound }
