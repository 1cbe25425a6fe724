"""Koubbi, Geshkovski and Rigollet (arXiv 2604.01978): homogenized transformers."""
