"""The page's sections: words, figures with their captions, tables."""
