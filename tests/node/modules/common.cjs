module.exports = (n) => n + 1;
module.exports.named = (n) => n + 2;
