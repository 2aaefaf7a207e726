throw new TypeError('it never loads');
