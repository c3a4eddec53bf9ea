"""picto-coca: a bilingual contrastive captioner of drawings. See README.md in this folder."""
