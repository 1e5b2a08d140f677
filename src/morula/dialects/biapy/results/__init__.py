"""BiaPy's folders of results, beside the files of a native run: written from its events, with hard links instead of copies."""
